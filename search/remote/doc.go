// Package remote has the candidates of a search scored and other work done by other processes, on this machine or on others, through a
// NATS server with JetStream.
//
// An [Exchange] is a [search.Evaluator]. It publishes candidates as tasks into a work queue and collects their scores. [Pieces] are other
// work, which has settings and files and results in a value and files. [Work] is the other side: it takes tasks, does them and publishes
// the results. A [Server] is a NATS server inside the process, for workers on the same machine; [Dial] connects to one elsewhere.
//
// Nothing in JetStream is a record: the checkpoint of the search is. A task that is lost is published again, a result that arrives
// twice changes nothing, and what a stream holds from before is never needed. Scores depend on the candidate and its text alone, so
// that a search has the same result however many workers there are and whatever happens to them.
//
// Subjects, where SEARCH is the random identity of a search:
//
//	lathe.search.SEARCH         the search announces itself: [Spec]
//	lathe.SEARCH.task           candidates to score or a piece of work, in the stream lathe-SEARCH-tasks
//	lathe.SEARCH.result.KEY     a score or a product, in the stream lathe-SEARCH-results; KEY identifies what was asked
//	lathe.SEARCH.failed         a worker could not score a candidate or do a piece
//	lathe.SEARCH.status.WORKER  a worker reports what it does
//	lathe.SEARCH.drain.WORKER   a worker is asked to finish its task and leave
//	lathe.SEARCH.file           a worker asks for a part of a file, which is then in the object store lathe-SEARCH
//	lathe.SEARCH.product        a worker sends a part of a file that a piece has resulted in
//
// Messages are data: their sizes are limited, nothing in them is executed, and no path is made from them but from hashes that are
// checked first.
package remote
