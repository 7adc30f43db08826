src/pg/settings.o: src/pg/settings.cpp src/pg/settings.h \
 src/core/decide.h src/core/states.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/pg.h
src/pg/settings.h:
src/core/decide.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/pg.h:
