"""stable-diffusion.cpp's sd-server."""
