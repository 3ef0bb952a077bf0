"""DeCLIP, SLIP, FILIP and DeFILIP as github.com/Sense-GVT/DeCLIP published them."""
