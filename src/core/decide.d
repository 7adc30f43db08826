src/core/decide.o: src/core/decide.cpp src/core/decide.h \
 src/core/states.h
src/core/decide.h:
src/core/states.h:
