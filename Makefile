.PHONY: static

# The static musl binary; the last line of its output says where it is.
static:
	tests/static/build
