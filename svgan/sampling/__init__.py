"""From a trained model to clips.

Codes are sampled, moved to a subject, rendered and pasted back.
"""
