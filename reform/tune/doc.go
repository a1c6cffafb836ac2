// Package tune trains a few numbers of a subnet end to end while its matrices stay as they are: the gains of the norms, one scale
// for every kept MLP channel and for every kept channel of attention, and output biases where the files of the model hold them.
// The loss is the divergence from the dense model, minimised with Adam; gradients are those of [decoder.Tuning]. The result is
// folded into norms, W_O, W_D and biases, so that the subnet is neither larger nor slower.
//
// Part of the text is held out: the best numbers on it are the result, and the untuned subnet where none are better.
package tune
