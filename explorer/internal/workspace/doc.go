// Package workspace reads and writes the folder that an exploration is kept in: the card that names its model, the lock of
// the process that holds it, the journal of records and the files of re-fitted weights. It knows nothing of what records
// mean.
package workspace
