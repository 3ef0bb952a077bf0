"""Models and towers of ours with open_clip's face: its methods, attributes and names of weights."""
