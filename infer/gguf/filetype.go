package gguf

import "github.com/lathe-llm/lathe/infer/subnet"

// fileTypes are llama.cpp's names of the values of general.file_type, with the type that most matrices of such a file have.
var fileTypes = map[uint64]struct {
	name string
	main Type
}{
	0: {"F32", F32}, 1: {"F16", F16}, 2: {"Q4_0", Q4_0}, 3: {"Q4_1", Q4_1}, 7: {"Q8_0", Q8_0}, 8: {"Q5_0", Q5_0}, 9: {"Q5_1", Q5_1},
	10: {"Q2_K", Q2_K}, 11: {"Q3_K_S", Q3_K}, 12: {"Q3_K_M", Q3_K}, 13: {"Q3_K_L", Q3_K}, 14: {"Q4_K_S", Q4_K}, 15: {"Q4_K_M", Q4_K},
	16: {"Q5_K_S", Q5_K}, 17: {"Q5_K_M", Q5_K}, 18: {"Q6_K", Q6_K}, 19: {"IQ2_XXS", subnet.IQ2_XXS}, 20: {"IQ2_XS", subnet.IQ2_XS}, 21: {"Q2_K_S", Q2_K},
	22: {"IQ3_XS", subnet.IQ3_XXS}, 23: {"IQ3_XXS", subnet.IQ3_XXS}, 24: {"IQ1_S", subnet.IQ1_S}, 25: {"IQ4_NL", subnet.IQ4_NL}, 26: {"IQ3_S", subnet.IQ3_S}, 27: {"IQ3_M", subnet.IQ3_S},
	28: {"IQ2_S", subnet.IQ2_XS}, 29: {"IQ2_M", subnet.IQ2_S}, 30: {"IQ4_XS", subnet.IQ4_XS}, 31: {"IQ1_M", subnet.IQ1_M}, 32: {"BF16", BF16}, 36: {"TQ1_0", subnet.TQ1_0}, 37: {"TQ2_0", subnet.TQ2_0},
	38: {"MXFP4", MXFP4},
}

// TypeName returns the name of the file's type by general.file_type, as Q4_K_M for a mixture of types. It is "" where the key is missing or
// unknown, or where no matrix has the type that the name stands for.
func (f *File) TypeName() string {
	n, ok := f.KV().Uint("general.file_type")
	named, known := fileTypes[n]
	if !ok || !known {
		return ""
	}
	for _, t := range f.Tensors() {
		if len(t.Dims) > 1 && t.Type == named.main {
			return named.name
		}
	}
	return ""
}
