"""StyleGAN-V (Skorokhodov et al. 2022): a video generator trained with its renderer on two or three sparse frames a
clip.
"""
