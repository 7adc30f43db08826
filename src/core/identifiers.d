src/core/identifiers.o: src/core/identifiers.cpp src/core/identifiers.h
src/core/identifiers.h:
