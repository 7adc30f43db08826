src/pg/gateway_config.o: src/pg/gateway_config.cpp \
 src/pg/gateway_config.h src/pg/pg.h src/pg/settings.h src/core/decide.h \
 src/core/states.h src/core/refund.h src/core/gateway_answer.h \
 src/pg/statement.h
src/pg/gateway_config.h:
src/pg/pg.h:
src/pg/settings.h:
src/core/decide.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/statement.h:
