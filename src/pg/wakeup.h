// Wakes the worker when a transaction that queued a refund has committed.
#pragma once

namespace payonce::pg {

// Registers the callbacks of a transaction's end, once in a process.
void register_wakeup();

// Marks this transaction; its commit sets the latch of this database's worker. A mark that is
// rolled back with a subtransaction costs one needless look round.
void wake_worker_at_commit();
// The same for the launcher: a database came or went.
void wake_launcher_at_commit();
// The commit has the launcher look for the extension in this database.
void probe_at_commit();

}  // namespace payonce::pg
