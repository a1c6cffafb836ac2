package vocab

// Parts returns the entries that an entry is merged of in the last step.
func (v *Vocabulary) Parts(id int) []int32 { return v.parts[id] }
