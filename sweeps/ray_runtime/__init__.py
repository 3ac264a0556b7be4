"""How do processes run on Ray?

Sessions, resources, job submission and networks.
"""
