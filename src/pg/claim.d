src/pg/claim.o: src/pg/claim.cpp src/pg/claim.h src/pg/gateway_config.h \
 src/pg/pg.h src/core/refund.h src/core/gateway_answer.h \
 src/core/states.h src/pg/dispatch_bridge.h src/pg/evidence.h \
 src/pg/lock.h src/pg/refund_result.h src/pg/store.h \
 src/core/payment_standing.h src/pg/settings.h src/core/decide.h \
 src/pg/statement.h
src/pg/claim.h:
src/pg/gateway_config.h:
src/pg/pg.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
src/pg/dispatch_bridge.h:
src/pg/evidence.h:
src/pg/lock.h:
src/pg/refund_result.h:
src/pg/store.h:
src/core/payment_standing.h:
src/pg/settings.h:
src/core/decide.h:
src/pg/statement.h:
