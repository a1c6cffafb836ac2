// Package weights decides what of a model is in the memory of a device, and when it is freed. Memory on a device is freed by hand;
// an arrow points from an owner to what it frees:
//
//	Residence ──► tensors of weights       on the device while held, then until evicted: past the limit the weight
//	    │                                  whose stage a pass reaches last goes first; freed by Close
//	    └───────► spill file               gathered weights that were evicted; weights of the model's file are read
//	                                       from it again. Extents are reused; freed by Close
//	Held      ──► nothing                  keeps weights on the device until Release
//	Registry  ──► a reference to a Block   finds blocks by content; releases the oldest that nothing else holds past
//	                                       SpareBytes, all at Clear
//	Block     ──► its own weights          dropped from the Residence with the last reference
//	Store     ──► tensors of states        in memory up to a limit, then in a spill file of its own; freed by Close
//
// A [Weight] of the model's file has a Load and needs no freeing; the Residence owns its tensor. Functions return the errors of
// the device and of the spill file.
package weights

import "github.com/gomlx/gomlx/core/tensors"

// Device is the memory of a device, in tensors of 32-bit floats or, half as large, of bfloat16.
type Device interface {
	// Create makes a tensor whose numbers fill writes, rounded to bfloat16 where half is set.
	Create(half bool, fill func(to []float32) error, dims ...int) (*tensors.Tensor, error)
	// Upload makes a tensor of a copy of data, rounded to bfloat16 where half is set.
	Upload(half bool, data []float32, dims ...int) (*tensors.Tensor, error)
	// Read calls use with the numbers of a tensor, which are valid during the call only and must not be modified.
	Read(t *tensors.Tensor, use func(data []float32)) error
}

// free releases the memory of a tensor, nil for none. A failure leaks memory and nothing else.
func free(t *tensors.Tensor) {
	if t != nil {
		_ = t.FinalizeAll()
	}
}
