src/core/states.o: src/core/states.cpp src/core/states.h
src/core/states.h:
