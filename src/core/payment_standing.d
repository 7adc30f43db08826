src/core/payment_standing.o: src/core/payment_standing.cpp \
 src/core/payment_standing.h src/core/states.h
src/core/payment_standing.h:
src/core/states.h:
