"""What oarpy needs of the world, as protocols; ``oarpy.drivers`` provides it."""
