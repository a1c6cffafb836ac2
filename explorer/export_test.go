package explorer

import "github.com/lathe-llm/lathe/infer/durable"

// SetWeightsDisk replaces the disk that weights are written to. No job may be running.
func (e *Exploration) SetWeightsDisk(d durable.Disk) { e.weights.disk = d }
