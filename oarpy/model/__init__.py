"""The vocabulary: states, requests, filters.  Imports no other part of oarpy."""
