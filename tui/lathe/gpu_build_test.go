//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// gpuBuilder runs .ci/gpu/gpu.py, which `make gpu` calls, with no programs in PATH but those it is given.
type gpuBuilder struct {
	t                       *testing.T
	python, bin, cache, sdk string
}

func newGPUBuilder(t *testing.T) *gpuBuilder {
	t.Helper()
	python, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable)").Output() // not a script that needs PATH
	if err != nil {
		t.Skip("python3 is not installed")
	}
	dir := t.TempDir()
	b := &gpuBuilder{t, strings.TrimSpace(string(python)), filepath.Join(dir, "bin"), filepath.Join(dir, "cache"), filepath.Join(dir, "sdk")}
	if err := os.Mkdir(b.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go", "sh", "chmod", "mkdir", "touch", "cat", "rm", "ln"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(path, filepath.Join(b.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// program adds a shell script to PATH.
func (b *gpuBuilder) program(name, script string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.bin, name), []byte("#!"+filepath.Join(b.bin, "sh")+"\n"+script), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// tools adds Vulkan's shader compiler, headers and loader, of which nothing is used.
func (b *gpuBuilder) tools() {
	b.t.Helper()
	for _, name := range []string{"bin/glslc", "include/vulkan/vulkan.hpp", "lib/libvulkan.so", "lib/libvulkan.so.1"} {
		path := filepath.Join(b.sdk, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// build returns what a build prints, and whether it succeeded.
func (b *gpuBuilder) build(name string) (string, bool) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), b.python, "../../.ci/gpu/gpu.py", b.cache, "build", name)
	cmd.Env = append(os.Environ(), "PATH="+b.bin, "VULKAN_SDK="+b.sdk, "CUDA_HOME="+b.cache, "PIP_NO_INDEX=1", "JOBS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		b.t.Errorf("%v: %s", err, out.String())
	}
	return out.String(), err == nil
}

// TestGPULibraryBuild: a build that fails or is interrupted continues, the same library is not built twice, and other patches or
// compilers begin anew. The compiler is a script.
func TestGPULibraryBuild(t *testing.T) {
	b := newGPUBuilder(t)
	b.tools()
	b.program("cmake", `
if [ "$1" = --build ]; then
	cd "$2" || exit 1
	echo "[1/2] first"
	[ -e first ] && echo reused
	touch first
	[ -e ../../stop ] && { echo "error: no space left"; exit 2; }
	mkdir -p lib/ollama && touch lib/ollama/libggml-vulkan.so lib/ollama/libggml-base.so.0
else
	mkdir -p "$4" && echo configured
fi
`)
	find := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(b.cache, "gpu", "ollama-*", pattern))
		if err != nil || len(found) > 1 {
			t.Fatal(found, err)
		}
		return strings.Join(found, "")
	}
	expect := func(what string, wantOK bool, parts ...string) {
		t.Helper()
		out, ok := b.build("vulkan")
		if ok != wantOK {
			t.Fatalf("%s: succeeded: %v\n%s", what, ok, out)
		}
		log, err := os.ReadFile(find("vulkan.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			part, absent := strings.CutPrefix(part, "no ")
			if strings.Contains(out+"\n"+string(log), part) == absent {
				t.Errorf("%s: %q is there: %v\n%s\nlog: %s", what, part, !absent, out, log)
			}
		}
	}
	place := filepath.Join(b.cache, "gpu", "ollama-"+llamacpp.Bindings)
	stop := filepath.Join(place, "stop")
	if err := errors.Join(os.MkdirAll(place, 0o755), os.WriteFile(stop, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	expect("no space", false, "building vulkan of ggml", "error: no space left", "cmake failed", "no reused")
	if find("use") != "" {
		t.Error("a library that was not built is chosen")
	}
	t.Setenv("CC", "another")
	expect("another compiler", false, "building vulkan of ggml", "no reused")
	if err := os.Remove(stop); err != nil {
		t.Fatal(err)
	}
	expect("once more", true, "continuing the build of vulkan that was interrupted", "reused", "vulkan: ")
	expect("built", true, "vulkan is built: ")
	for pattern, want := range map[string]bool{"use": true, "vulkan/lib/ollama/libggml-vulkan.so": true, "vulkan/lib/ollama/lathe.json": true, "vulkan-build": false} {
		if (find(pattern) != "") != want {
			t.Errorf("%s is there: %v", pattern, !want)
		}
	}
	// The description of a library that other patches made.
	path := find("vulkan/lib/ollama/lathe.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(`"build": "`), []byte(`"build": "0`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("other patches", true, "building vulkan of ggml", "no reused")
}

// fakeCMake is a cmake that builds the libraries at once.
const fakeCMake = `
if [ "$1" = --build ]; then
	mkdir -p "$2/lib/ollama" && touch "$2/lib/ollama/libggml-vulkan.so" "$2/lib/ollama/libggml-base.so.0"
else
	mkdir -p "$4"
fi
`

// noVulkan skips a test where the system has what it is about to miss.
func noVulkan(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/include/vulkan/vulkan.hpp"); err == nil {
		t.Skip("Vulkan's headers are installed")
	}
}

// TestGPULibraryPackages: packages are unpacked into the cache without root, those that are installed too: a machine with a driver has the
// loader, and no headers.
func TestGPULibraryPackages(t *testing.T) {
	noVulkan(t)
	b := newGPUBuilder(t)
	b.program("cmake", fakeCMake)
	b.program("dpkg-query", "echo libvulkan1")
	b.program("apt-get", `
for a; do case "$a" in -s) mode=simulate;; download) mode=download;; update) exit 0;; esac; done
if [ "$mode" = simulate ]; then
	for p in glslc libshaderc1 libvulkan-dev; do echo "Inst $p (1.0 Debian:12 [amd64])"; done
	exit 0
fi
for a; do case "$a" in -*|download) ;; *) touch "${a%%=*}.deb" || exit 1;; esac; done
`)
	b.program("dpkg-deb", `
lib="$3/usr/lib/x86_64-linux-gnu"
mkdir -p "$lib" "$3/usr/bin" "$3/usr/include/vulkan"
case "$2" in
*/glslc.deb) touch "$3/usr/bin/glslc";;
*/libvulkan-dev.deb) touch "$3/usr/include/vulkan/vulkan.hpp"; ln -sf libvulkan.so.1 "$lib/libvulkan.so";;
*/libvulkan1.deb) touch "$lib/libvulkan.so.1";;
esac
`)
	for _, want := range []string{"fetching 4 packages without installing them: glslc=1.0 libshaderc1=1.0 libvulkan-dev=1.0 libvulkan1\n", "vulkan is built"} {
		if out, ok := b.build("vulkan"); !ok || !strings.Contains(out, want) {
			t.Fatalf("succeeded: %v, lacks %q:\n%s", ok, want, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(b.cache, "gpu", "packages", "*", "[dl]*s")); err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %q, %v", left, err)
	}
}

// TestGPULibraryNeeds: what is missing is named with what provides it.
func TestGPULibraryNeeds(t *testing.T) {
	for _, tt := range []struct {
		name, backend string
		setUp         func(b *gpuBuilder)
		want          string
	}{
		{"no tools", "vulkan", func(*gpuBuilder) {}, "Vulkan's shader compiler and headers are not installed, and there is no apt-get to fetch them without root. Install them: apt-get install --no-install-recommends glslc libvulkan-dev or dnf install"},
		{"Fedora", "vulkan", func(b *gpuBuilder) { b.program("dnf", "") }, "Install them: dnf install glslc vulkan-headers vulkan-loader-devel\n"},
		{"no network", "vulkan", func(b *gpuBuilder) {
			b.program("apt-get", `echo "E: Unable to locate package glslc" >&2; exit 100`)
			b.program("dpkg-deb", "exit 1")
		}, "apt-get finds no glslc, libshaderc1, libvulkan1, libvulkan-dev (E: Unable to locate package glslc). Install them: apt-get install"},
		{"no cmake", "vulkan", (*gpuBuilder).tools, "cmake was not found and pip has none for this machine: install cmake (Debian: apt install cmake)"},
		{"another word", "metal", func(*gpuBuilder) {}, "GPU=metal: not vulkan or cuda"},
		{"CUDA without a GPU", "cuda", func(*gpuBuilder) {}, "nvidia-smi finds no NVIDIA GPU: CUDA needs its driver (580 or later)"},
		{"CUDA with a driver that fails", "cuda", func(b *gpuBuilder) {
			b.program("nvidia-smi", `echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."; exit 9`)
		}, "nvidia-smi finds no NVIDIA GPU"},
		{"CUDA on an old GPU", "cuda", func(b *gpuBuilder) { b.program("nvidia-smi", "echo 6.1") }, "compute capability 6.1 is older than CUDA 13's oldest, 7.5: use GPU=vulkan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.want, "apt-get") {
				noVulkan(t)
			}
			b := newGPUBuilder(t)
			tt.setUp(b)
			if out, ok := b.build(tt.backend); ok || !strings.Contains(out, tt.want) || strings.Contains(out, "Traceback") {
				t.Errorf("succeeded: %v, lacks %q:\n%s", ok, tt.want, out)
			}
		})
	}
}
