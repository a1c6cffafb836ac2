package decoder

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPluginsFound(t *testing.T) {
	root := t.TempDir()
	touch := func(path ...string) string {
		p := filepath.Join(append([]string{root}, path...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	named := touch("named", "pjrt_c_api_cpu_v1_plugin.so")
	namedCUDA := touch("named", "pjrt_c_api_cuda_plugin.so")
	installed := touch("home", ".local", "lib", "go-xla", "pjrt_c_api_cpu_plugin.so")
	gomlx := touch("home", ".local", "lib", "go-xla", "nvidia", "pjrt_c_api_cuda_plugin.so")
	cachedCUDA := touch("cache", "xla-cuda", "jax_plugins", "xla_cuda13", "xla_cuda_plugin.so")
	cached := touch("cache", "xla", "pjrt_c_api_cpu_plugin.so")
	old := touch("venv", "lib", "python3.12", "site-packages", "jax_plugins", "xla_cuda12", "xla_cuda_plugin.so")
	jax := touch("venv", "lib", "python3.13", "site-packages", "jax_plugins", "xla_cuda13", "xla_cuda_plugin.so")
	touch("named", "other.so")
	t.Setenv("HOME", filepath.Join(root, "home"))
	t.Setenv("LATHE_CACHE", filepath.Join(root, "cache"))
	t.Setenv("VIRTUAL_ENV", filepath.Join(root, "venv"))
	t.Setenv("CONDA_PREFIX", "relative")

	prefix := func(got, want []string) bool { return len(got) >= len(want) && slices.Equal(got[:len(want)], want) }
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", filepath.Join(root, "named")+":relative")
	if got, want := cpuPlugins(), []string{named, cached}; !slices.Equal(got, want) {
		t.Errorf("CPU plugins %q, want %q", got, want)
	}
	if got, want := cudaPlugins(), []string{namedCUDA, cachedCUDA, jax, old}; !prefix(got, want) {
		t.Errorf("CUDA plugins %q, want %q first", got, want)
	}
	if err := os.Unsetenv("PJRT_PLUGIN_LIBRARY_PATH"); err != nil {
		t.Fatal(err)
	}
	if got := cpuPlugins(); !prefix(got, []string{installed}) || !slices.Contains(got, cached) {
		t.Errorf("CPU plugins %q, want %q first and %q among them", got, installed, cached)
	}
	if got, want := cudaPlugins(), []string{gomlx, cachedCUDA, jax, old}; !prefix(got, want) {
		t.Errorf("CUDA plugins %q, want %q first", got, want)
	}
	for _, tt := range []struct{ plugin, libdevice, want string }{
		{cachedCUDA, touch("cache", "xla-cuda", "nvidia", "cu13", "nvvm", "libdevice", "libdevice.10.bc"), filepath.Join(root, "cache", "xla-cuda", "nvidia", "cu13")},
		{gomlx, touch("home", ".local", "lib", "go-xla", "nvidia", "cuda_nvcc", "nvvm", "libdevice", "libdevice.10.bc"), filepath.Join(root, "home", ".local", "lib", "go-xla", "nvidia", "cuda_nvcc")},
		{jax, "", ""},
	} {
		if got := cudaData(tt.plugin); got != tt.want {
			t.Errorf("%s: CUDA's data in %q, want %q", tt.plugin, got, tt.want)
		}
	}
	if kindOfPlugin(jax) != "cuda" || kindOfPlugin(cached) != "xla" {
		t.Errorf("kinds %q and %q", kindOfPlugin(jax), kindOfPlugin(cached))
	}
}
