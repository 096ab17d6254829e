"""Darwin Core Archives: which terms there are, and which column of a resource goes to which of them."""
