"""How good is it, by which protocol? Features in, figures with their protocol out."""
