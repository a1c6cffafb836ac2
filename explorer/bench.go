package explorer

import "time"

// BenchID names a benchmark within its workspace.
type BenchID string

// A Bench compares the speed and memory of subnets on this machine; rows fill while it runs.
type Bench struct {
	ID       BenchID
	Job      JobID
	Author   string
	Created  time.Time
	Settings BenchSettings
	Rows     []BenchRow
	Done     bool
}

// BenchSettings are the settings of a benchmark.
type BenchSettings struct {
	Subnets   []SubnetID `json:"subnets"`    // the dense model first
	Prompt    []int      `json:"prompt"`     // prompt lengths, tokens
	Generate  int        `json:"generate"`   // tokens generated per run
	Repeats   int        `json:"repeats"`    // runs per cell, after one warm-up
	Threads   int        `json:"threads"`    // 0: the machine's cores
	GPULayers int        `json:"gpu_layers"` // layers on the GPU
	Type      string     `json:"type"`       // tensor type subnets are written as; "" as the source
}

// A BenchRow is one subnet at one context length.
type BenchRow struct {
	Subnet     SubnetID
	Label      string
	Prompt     int    // tokens in the context
	Prefill    Spread // tokens per second
	Generation Spread // tokens per second
	FirstToken Spread // seconds
	Load       time.Duration
	FileBytes  int64
	Memory     int64   // resident bytes of the engine with this model
	Perplexity float64 // newest measured; 0 if none
	Relative   float64 // of that to the dense model's under equal conditions; 0 if unknown
	Pending    bool
	Err        string
}

// A Spread is the mean and the standard deviation of repeated runs.
type Spread struct {
	Mean, Deviation float64
	Runs            int
}
