"""How does a trained model become clips?

Codes are sampled, moved to a subject, rendered and pasted back.
"""
