"""What runs on nodes; knows nothing of the rest of oarpy."""
