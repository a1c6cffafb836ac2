package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

func TestCards(t *testing.T) {
	drm := t.TempDir()
	add := func(name, vendor, address string) {
		device := filepath.Join(drm, "devices", address)
		folder := filepath.Join(drm, name)
		for _, dir := range []string{device, folder} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(device, "vendor"), []byte(vendor+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(device, filepath.Join(folder, "device")); err != nil {
			t.Fatal(err)
		}
	}
	add("card0", "0x1002", "0000:03:00.0")
	add("card1", "0x8086", "0000:00:02.0")
	add("card2", "0x1234", "0000:00:01.0") // QEMU's display
	add("card3", "0xabcd", "0000:04:00.0")
	add("card0-DP-1", "0x1002", "0000:05:00.0") // a connector
	add("card4", "0x10de", "0000:06:00.0")
	if got, want := fmt.Sprint(cards(drm)), "[{AMD 0000:03:00.0} {Intel 0000:00:02.0} {vendor 0xabcd 0000:04:00.0} {NVIDIA 0000:06:00.0}]"; got != want {
		t.Errorf("cards %s, want %s", got, want)
	}
}

func TestDoctorGPUs(t *testing.T) {
	cpu := infer.Device{Name: "CPU"}
	amd := infer.Device{Name: "Vulkan0", Description: "AMD Radeon", GPU: true, ID: "0000:03:00.0", Total: 8 << 30, Free: 6 << 30}
	arc := infer.Device{Name: "Vulkan1", Description: "Intel Arc", GPU: true, Integrated: true, ID: "0000:00:02.0", Unused: "integrated, and there is Vulkan0"}
	soft := infer.Device{Name: "Vulkan0", Description: "llvmpipe", GPU: true, Software: true}
	for _, tt := range []struct {
		name    string
		run     llamacpp.Options
		off     bool
		devices []infer.Device
		failed  []string
		cards   []card
		want    []string // for each check, its state and parts of its text
	}{
		{"nothing", llamacpp.Options{}, false, []infer.Device{cpu}, nil, nil, []string{"absent GPU library", "absent GPU|none found|processor"}},
		{"a card without the library", llamacpp.Options{}, false, []infer.Device{cpu}, nil, []card{{"AMD", "0000:03:00.0"}},
			[]string{"absent GPU library", "missing GPU|AMD|0000:03:00.0|make gpu"}},
		{"a library that does not load", llamacpp.Options{Libraries: "/lib"}, false, []infer.Device{cpu}, []string{"libvulkan.so.1: cannot open"}, []card{{"AMD", "0000:03:00.0"}},
			[]string{"broken GPU library|libvulkan.so.1: cannot open|make gpu", "missing GPU|driver"}},
		{"a library without any driver", llamacpp.Options{Libraries: "/lib"}, false, []infer.Device{cpu}, []string{"libggml-vulkan.so: finds no GPU with a driver"}, nil,
			[]string{"missing GPU library|/lib|no GPU with a driver|install the driver", "absent GPU"}},
		{"a library of another version", llamacpp.Options{NoLibraries: "other version"}, false, []infer.Device{cpu}, nil, nil,
			[]string{"broken GPU library|other version|make gpu", "absent GPU"}},
		{"a library without a driver", llamacpp.Options{Libraries: "/lib"}, false, []infer.Device{cpu}, nil, []card{{"Intel", ""}},
			[]string{"missing GPU library|driver", "missing GPU|Intel|driver"}},
		{"a card and an integrated one", llamacpp.Options{Libraries: "/lib"}, false, []infer.Device{cpu, amd, arc}, nil, []card{{"AMD", "0000:03:00.0"}, {"Intel", "0000:00:02.0"}},
			[]string{"ok GPU|Vulkan0|AMD Radeon|8.59 GB of memory|6.44 GB free|chat", "absent GPU|Vulkan1|there is Vulkan0", "ok GPU library|/lib"}},
		{"a software device", llamacpp.Options{Libraries: "/lib"}, false, []infer.Device{cpu, soft}, nil, nil,
			[]string{"ok GPU|software device|--gpu off", "ok GPU library"}},
		{"off", llamacpp.Options{Libraries: "/lib"}, true, []infer.Device{cpu, amd}, nil, nil, []string{"ok GPU|nothing: --gpu off", "ok GPU library"}},
	} {
		e := &Engine{libraries: tt.run}
		e.layers.Store(infer.AllLayers)
		if tt.off {
			e.layers.Store(0)
		}
		checks := e.gpus(tt.devices, tt.failed, tt.cards)
		if len(checks) != len(tt.want) {
			t.Errorf("%s: %+v", tt.name, checks)
			continue
		}
		for i, c := range checks {
			text := fmt.Sprintf("%s %s: %s; %s; %s", c.State, c.Name, c.Found, c.Used, c.Get)
			for _, part := range strings.Split(tt.want[i], "|") {
				if !strings.Contains(text, part) {
					t.Errorf("%s: %q lacks %q", tt.name, text, part)
				}
			}
		}
	}
}

// TestGPUSetting: off keeps models and computations off GPUs, a number is that of every load without its own.
func TestGPUSetting(t *testing.T) {
	for _, tt := range []struct{ gpu, compute, env, device string }{
		{"", "", "", ""}, {"auto", "auto", "", "auto"}, {"off", "", "", "cpu"}, {"off", "auto", "", "cpu"}, {"off", "cuda", "", "cuda"}, {"3", "", "", ""},
		{"off", "", "auto", "cpu"}, {"off", "auto", "xla", "cpu"}, {"off", "auto", "cuda", "cpu"}, {"off", "", "cuda", ""}, {"", "", "cuda", ""},
	} {
		t.Setenv("LATHE_BACKEND", tt.env)
		e, err := New(Options{GPU: tt.gpu, Compute: tt.compute})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.device(); got != tt.device {
			t.Errorf("--gpu %s --compute %s, LATHE_BACKEND=%s: computes on %q, want %q", tt.gpu, tt.compute, tt.env, got, tt.device)
		}
	}
	if _, err := New(Options{GPU: "some"}); err == nil {
		t.Error("some layers")
	}
}
