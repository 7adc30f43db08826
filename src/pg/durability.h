// What must be on disk, and on the synchronous standbys, before anybody relies on it.
#pragma once

#include <cstdint>

#include "pg/pg.h"

namespace payonce::pg {

// At the start of whatever decides about money. Refuses where nothing can be written: a read-only
// transaction, a standby (25006). Raises synchronous_commit to at least `on` until the end of the
// transaction: an acknowledged callback is never lost, whatever the application has set.
void begin_decision();
// Just before a commit: raises it again, where the end of a calling function with a setting of its
// own, or a SET LOCAL, has lowered it since.
void before_commit();
// At the end of each transaction; neither fails nor allocates.
void end_decisions(bool committed);

// For an answer that rests on rows which may be visible although no standby has them yet: has this
// transaction's commit wait for the standbys too. Does nothing where none are configured.
void rely_on_visible_rows();

// True once the synchronous standbys (where configured) have everything up to `lsn`. A wait that
// was cancelled ends a commit without that; the worker asks here before a byte leaves.
bool standbys_have(XLogRecPtr lsn);

// Whether the process waits for the synchronous standbys in a commit; for people to look at.
bool is_waiting_for_standbys(pid_t pid);

}  // namespace payonce::pg
