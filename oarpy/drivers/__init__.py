"""The world as it is: implementations of ``oarpy.ports``."""
