"""What is trained, and by which formulas?

Each folder is one system. The systems do not know each other.
"""
