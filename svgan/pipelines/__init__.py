"""What happens from end to end?

Video to codes, other people's checkpoints to a domain, footage to a domain.
"""
