"""Where is the face in a frame?

Landmarks, alignment, tracking, masks and crops.
"""
