"""whisper.cpp's whisper-server."""
