package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// A card is a graphics card of the machine, or a part of its processor, as the kernel lists it.
type card struct {
	vendor  string // "AMD", or the number where it is not known
	address string // on the PCI bus; "" if not known
}

// cards lists the graphics cards in a folder such as /sys/class/drm, and NVIDIA's without a driver that adds them there.
func cards(drm string) []card {
	vendors := map[string]string{"0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel", "0x1d17": "Zhaoxin", "0x1ed5": "Moore Threads"}
	virtual := []string{"0x1234", "0x1af4", "0x15ad", "0x1013", "0x1b36", "0x80ee", "0x1414"} // displays of virtual machines: nothing computes there
	var list []card
	found, err := filepath.Glob(filepath.Join(drm, "card[0-9]*", "device", "vendor"))
	if err != nil {
		return nil
	}
	for _, path := range found {
		if strings.Contains(filepath.Base(filepath.Dir(filepath.Dir(path))), "-") { // a connector
			continue
		}
		id, err := os.ReadFile(path)
		number := strings.TrimSpace(string(id))
		if err != nil || slices.Contains(virtual, number) {
			continue
		}
		c := card{vendor: vendors[number]}
		if c.vendor == "" {
			c.vendor = "vendor " + number
		}
		if device, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil && strings.Count(filepath.Base(device), ":") == 2 {
			c.address = filepath.Base(device)
		}
		list = append(list, c)
	}
	if nvidia, err := filepath.Glob("/dev/nvidia[0-9]*"); err == nil && len(nvidia) > 0 && !slices.ContainsFunc(list, func(c card) bool { return c.vendor == "NVIDIA" }) {
		for range nvidia {
			list = append(list, card{vendor: "NVIDIA"})
		}
	}
	return list
}

// gpus reports the GPUs that the engine lists, the libraries that do not load, and the cards of the machine that are not used.
// failed has a line for each library that does not load.
func (e *Engine) gpus(devices []infer.Device, failed []string, cards []card) []Check {
	const purpose = "chat, benchmarks and perplexity of written files"
	var checks []Check
	used := make(map[string]bool) // PCI addresses
	found := 0
	for _, d := range devices {
		if !d.GPU {
			continue
		}
		found++
		used[d.ID] = true
		c := Check{Name: "GPU", State: Works, Used: purpose}
		c.Found = fmt.Sprintf("%s, %s, %s of memory, %s free", d.Name, strings.TrimSpace(d.Description), format.Bytes(d.Total), format.Bytes(d.Free))
		switch {
		case d.Software:
			c.Found += ", a software device: it computes on the processor, in the machine's memory, and slower than the engine does without it"
			c.Get = "for tests only: --gpu off is faster"
		case d.Integrated:
			c.Found += ", in the machine's memory"
		}
		if d.Unused != "" {
			c.State, c.Used = Absent, "nothing: "+d.Unused
		} else if e.layers.Load() == 0 {
			c.Used = "nothing: --gpu off"
		}
		checks = append(checks, c)
	}
	library := Check{Name: "GPU library", State: Works, Found: e.libraries.Libraries, Used: purpose}
	switch {
	case len(failed) > 0 && !slices.ContainsFunc(failed, func(line string) bool { return !llamacpp.WithoutDriver(line) }):
		library.State, library.Found = Missing, e.libraries.Libraries+": "+strings.Join(failed, "; ")
		library.Used = "nothing: everything runs on the processor"
		library.Get = "install the driver of the GPU (explorer/docs/gpu.md)"
	case len(failed) > 0:
		library.State, library.Found = Broken, "is there and does not load: "+strings.Join(failed, "; ")
		library.Used = "nothing: everything runs on the processor"
		library.Get = "install what is missing (explorer/docs/gpu.md), or build it again: `make gpu`"
	case e.libraries.NoLibraries != "":
		library.State, library.Found, library.Get = Broken, e.libraries.NoLibraries, "run `make gpu`"
		library.Used = "nothing: everything runs on the processor"
	case e.libraries.Libraries == "":
		library.State, library.Found = Absent, ""
	case found == 0:
		library.State, library.Found = Missing, library.Found+" finds no GPU with a driver"
		library.Get = "install the driver of the GPU (explorer/docs/gpu.md)"
	}
	checks = append(checks, library)
	for _, c := range cards {
		if c.address != "" && used[c.address] || c.address == "" && found > 0 {
			continue
		}
		missing := Check{Name: "GPU", State: Missing, Found: "a card of " + c.vendor, Used: "nothing: everything runs on the processor"}
		if c.address != "" {
			missing.Found += " at " + c.address
		}
		if library.State == Absent {
			missing.Found += ", but not the engine's library"
			missing.Get = "run `make gpu`"
		} else {
			missing.Found += ", that the engine's library does not find"
			missing.Get = "install its driver (explorer/docs/gpu.md)"
		}
		if found > 0 {
			missing.Used = "nothing: the engine runs on another GPU"
		}
		checks = append(checks, missing)
	}
	if found == 0 && len(cards) == 0 {
		checks = append(checks, Check{Name: "GPU", State: Absent, Found: "none found", Used: "everything runs on the processor"})
	}
	return checks
}
