src/core/text.o: src/core/text.cpp src/core/text.h
src/core/text.h:
