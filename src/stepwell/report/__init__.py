"""From run folders to tables, pictures and one HTML page; and the live line of a run in progress."""
