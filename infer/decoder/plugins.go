package decoder

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/shipped"
)

// pluginHint returns what would provide a plugin of a kind.
func pluginHint(kind string) string {
	if kind == "cuda" {
		return "run make gpu-search, install JAX with CUDA, pip install 'jax[cuda13]', or name the plugin: xla:/path/xla_cuda_plugin.so"
	}
	return "run make setup, or name the plugin: xla:/path/pjrt_c_api_cpu_plugin.so"
}

// kindOfPlugin returns the kind of a plugin, by its file name.
func kindOfPlugin(path string) string {
	if strings.Contains(strings.ToLower(filepath.Base(path)), "cuda") {
		return "cuda"
	}
	return "xla"
}

// Plugin returns the path of the XLA plugin for processors that is preferred, "" if none is found, and its version where lathe's
// set-up installed it.
func Plugin() (path, version string) {
	found := cpuPlugins()
	if len(found) == 0 {
		return "", ""
	}
	const stamp = "pjrt-cpu-"
	for _, s := range glob(filepath.Dir(filepath.Dir(found[0])), filepath.Join("stamps", "*"+stamp+"*")) {
		_, version, _ = strings.Cut(filepath.Base(s), stamp)
	}
	return found[0], version
}

// cpuPlugins lists XLA CPU plugins in order of preference: in folders that the user names, where GoMLX's installer puts them,
// the one in lathe's cache, and the one that came with the program.
func cpuPlugins() []string {
	var paths []string
	for _, dir := range pluginDirs() {
		paths = append(paths, glob(dir, "pjrt_c_api_cpu*_plugin.so")...)
		paths = append(paths, glob(dir, "pjrt[-_]plugin[-_]cpu*.so")...)
	}
	if cache := cacheDir(); cache != "" {
		paths = append(paths, glob(cache, "xla/pjrt_c_api_cpu_plugin.so")...)
	}
	if dir := shipped.Dir(); dir != "" {
		paths = append(paths, glob(dir, "xla/pjrt_c_api_cpu_plugin.so")...)
	}
	return paths
}

// cudaPlugins lists XLA CUDA plugins in order of preference: in folders that the user names, where GoMLX's installer puts them,
// the one in lathe's cache, and those of Python environments that have JAX.
func cudaPlugins() []string {
	var paths []string
	for _, dir := range pluginDirs() {
		paths = append(paths, glob(dir, "pjrt_c_api_cuda*_plugin.so")...)
		paths = append(paths, glob(dir, "xla_cuda_plugin.so")...)
		paths = append(paths, glob(dir, filepath.Join("nvidia", "pjrt_c_api_cuda*_plugin.so"))...)
	}
	if cache := cacheDir(); cache != "" {
		paths = append(paths, glob(cache, "xla-cuda/jax_plugins/xla_cuda13/xla_cuda_plugin.so")...)
	}
	for _, dir := range sitePackages() {
		for _, plugin := range []string{"xla_cuda13", "xla_cuda12"} {
			paths = append(paths, glob(dir, filepath.Join("jax_plugins", plugin, "xla_cuda_plugin.so"))...)
		}
	}
	return paths
}

// cudaData returns the folder with NVIDIA's compiler and its library of functions, which XLA reads, in the packages that are
// installed beside a plugin: as JAX has them, or as GoMLX's installer does. It is "" where there are none.
func cudaData(plugin string) string {
	dir := filepath.Dir(plugin)
	for _, base := range []string{filepath.Join(dir, "..", "..", "nvidia"), filepath.Join(dir, "..", "nvidia")} {
		for _, name := range []string{"cu13", "cuda_nvcc", "."} {
			folder := filepath.Join(base, name)
			if info, err := os.Stat(filepath.Join(folder, "nvvm", "libdevice")); err == nil && info.IsDir() {
				return folder
			}
		}
	}
	return ""
}

// pluginDirs returns the folders that are searched for plugins.
func pluginDirs() []string {
	if v, ok := os.LookupEnv("PJRT_PLUGIN_LIBRARY_PATH"); ok {
		return absolute(filepath.SplitList(v))
	}
	var dirs []string
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".local", "lib", "go-xla"), filepath.Join(home, ".local", "lib", "gomlx", "pjrt"))
	}
	return append(dirs, "/usr/local/lib/go-xla", "/usr/local/lib/gomlx/pjrt")
}

// sitePackages returns the folders of Python packages of the active environment, the user and the system.
func sitePackages() []string {
	var roots []string
	for _, env := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if v := os.Getenv(env); v != "" {
			roots = append(roots, v)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(home, ".local"))
	}
	roots = append(roots, "/usr/local", "/usr")
	var dirs []string
	for _, root := range absolute(roots) {
		for _, name := range []string{"site-packages", "dist-packages"} {
			found := glob(root, filepath.Join("lib", "python3*", name))
			slices.Reverse(found) // newest Python first
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

// cacheDir returns lathe's cache folder, "" where the system has none.
func cacheDir() string {
	if v := os.Getenv("LATHE_CACHE"); v != "" {
		return v
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "lathe")
	}
	return ""
}

// hasNVIDIA reports whether the system has an NVIDIA GPU.
func hasNVIDIA() bool { return len(glob("/dev", "nvidia[0-9]*")) > 0 }

// glob returns the absolute paths under dir that match pattern, sorted by name.
func glob(dir, pattern string) []string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return nil
	}
	return found
}

// absolute removes empty and relative paths.
func absolute(dirs []string) []string {
	return slices.DeleteFunc(dirs, func(d string) bool { return !filepath.IsAbs(d) })
}
