"""What people install and deploy: the wheel, and the files of `deploy/` for other programs, each
with the program that reads them."""
