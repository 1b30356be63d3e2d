"""How a command asks the server, waits for the answer, and reads what users may see."""
