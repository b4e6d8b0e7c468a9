"""Results of many images: a directory of files, restarts, and what is made of all of them."""
