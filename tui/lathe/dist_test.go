//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// packed makes an archive of a release with the program under test and small stand-ins for what set-up fetches, and unpacks it.
// It returns the unpacked folder and the paths in it.
func packed(t *testing.T) (root string, paths map[string]int64) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	program, err := exec.LookPath("lathe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	for name, text := range map[string]string{
		"xla/pjrt_c_api_cpu_plugin.so": "no plug-in", "stamps/lammps-jax-pjrt-cpu-9.9.9": "0\n", "text/wiki.utf8": strings.Repeat("A lathe turns wood. ", 500), "text/c4.utf8": strings.Repeat("A web page. ", 500),
		"text/code.utf8": strings.Repeat("x := 1\n", 500),
	} {
		path := filepath.Join(cache, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var archives [2][]byte
	for i := range archives { // a second time, for the same bytes
		cmd := exec.CommandContext(t.Context(), python, "../../.ci/dist.py", cache, program, filepath.Join(dir, "dist"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(strings.TrimSpace(string(out))); err != nil {
			t.Fatal(err)
		}
		sum, err := os.ReadFile(strings.TrimSpace(string(out)) + ".sha256")
		if err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256(archives[i]); !strings.HasPrefix(string(sum), hex.EncodeToString(want[:])+"  lathe-"+release+"-linux-") {
			t.Errorf("the checksum of the archive is %s, want %x", sum, want)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two runs write different archives")
	}
	zipped, err := gzip.NewReader(bytes.NewReader(archives[0]))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "any where")
	paths = map[string]int64{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		top, path, _ := strings.Cut(h.Name, "/")
		if root = filepath.Join(elsewhere, top); !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg {
			t.Fatalf("%s is not a file below the archive's folder", h.Name)
		}
		paths[path] = h.Size
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(full, os.O_CREATE|os.O_WRONLY, os.FileMode(h.Mode))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return root, paths
}

// TestArchive checks what the archive of a release contains, and that the program runs from where it was unpacked, with what came
// with it and without a network or a home folder.
func TestArchive(t *testing.T) {
	root, paths := packed(t)
	want := []string{
		"bin/lathe", "LICENSE", "SHA256SUMS", "share/doc/lathe/README.md", "share/doc/lathe/CHANGELOG.md", "share/doc/lathe/LICENSE", "share/lathe/xla/pjrt_c_api_cpu_plugin.so",
		"share/lathe/stamps/lammps-jax-pjrt-cpu-9.9.9", "share/lathe/text/wiki.utf8", "share/lathe/text/c4.utf8", "share/lathe/text/code.utf8", "share/bash-completion/completions/lathe",
		"share/zsh/site-functions/_lathe", "share/fish/vendor_completions.d/lathe.fish", "share/doc/lathe/licenses/go/LICENSE",
		"share/doc/lathe/licenses/github.com/ollama/ollama/LICENSE", "share/doc/lathe/licenses/github.com/gomlx/gomlx/LICENSE",
	}
	var pages func(c *cobra.Command)
	pages = func(c *cobra.Command) {
		want = append(want, "share/man/man1/"+manName(c)+".1")
		for _, sub := range documented(c) {
			pages(sub)
		}
	}
	pages(newRoot(&app{}))
	image, err := os.ReadFile("../../.container/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	added := regexp.MustCompile(`(?m)^ADD (\S+) /opt/$`).FindSubmatch(image)
	linked := regexp.MustCompile(`(?m)^RUN ln -s /opt/(\S+)/bin/lathe /usr/local/bin/lathe`).FindSubmatch(image)
	if added == nil || linked == nil {
		t.Fatalf("the image does not unpack the archive:\n%s", image)
	}
	for pattern, name := range map[string]string{string(added[1]): filepath.Base(root) + ".tar.gz", string(linked[1]): filepath.Base(root)} {
		if ok, err := filepath.Match(pattern, name); !ok || err != nil {
			t.Errorf("%v: the image takes %s, which %s is not", err, pattern, name)
		}
	}
	for _, path := range want {
		if paths[path] == 0 {
			t.Errorf("the archive lacks %s", path)
		}
	}
	sums, err := os.Open(filepath.Join(root, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	defer sums.Close()
	listed := 0
	for lines := bufio.NewScanner(sums); lines.Scan(); listed++ {
		sum, path, _ := strings.Cut(lines.Text(), "  ")
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s has another checksum than %s", path, sum)
		}
	}
	if listed != len(paths)-1 {
		t.Errorf("%d checksums for %d files", listed, len(paths)-1)
	}
	home := t.TempDir()
	model := filepath.Join(home, "tiny.gguf")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	lathe := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "lathe"), args...)
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "HF_HUB_OFFLINE=1", "LATHE_BACKEND=go", "TERM=dumb"}
		var words bytes.Buffer
		cmd.Stderr = &words
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, words.String())
		}
		return out
	}
	var v versions
	if err := json.Unmarshal(lathe("version", "--json"), &v); err != nil || v.Plugin != filepath.Join(root, "share/lathe/xla/pjrt_c_api_cpu_plugin.so") || v.Pinned != "9.9.9" {
		t.Errorf("%v: the plug-in is not that of the archive: %+v", err, v)
	}
	var made madeResult
	if err := json.Unmarshal(lathe("cut", model, "--ratio", "0.8", "--method", "magnitude", "--text", "wiki", "--windows", "1", "--seq", "32", "-o", "small.gguf", "--json"), &made); err != nil || made.Export == nil {
		t.Errorf("%v: nothing is cut with the archive's text: %+v", err, made)
	}
	if words := string(lathe("doctor")); !strings.Contains(words, "Hugging Face hub: lathe ") {
		t.Errorf("an archive, which has no make, is helped with\n%s", words)
	}
}

// TestArchiveWithoutGo runs the unpacked program in a root folder that has the C libraries and nothing else, without a network.
func TestArchiveWithoutGo(t *testing.T) {
	for _, tool := range []string{"unshare", "chroot", "ldd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	if os.Geteuid() != 0 || exec.Command("unshare", "--net", "--mount", "true").Run() != nil {
		t.Skip("the user may not unshare the network")
	}
	chroot, err := exec.LookPath("chroot")
	if err != nil {
		t.Fatal(err)
	}
	root, _ := packed(t)
	bare := t.TempDir()
	libraries, err := exec.CommandContext(t.Context(), "ldd", filepath.Join(root, "bin", "lathe")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range regexp.MustCompile(`/[^ ]+\.so[^ ]*`).FindAllString(string(libraries), -1) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(bare, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "tmp", "dev"} {
		if err := os.Mkdir(filepath.Join(bare, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(root, filepath.Join(bare, "lathe")); err != nil {
		t.Fatal(err)
	}
	if err := gguftest.Tiny("llama").Write(filepath.Join(bare, "tiny.gguf")); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"version", "info /tiny.gguf", "cut /tiny.gguf --ratio 0.8 --method magnitude --text wiki --windows 1 --seq 32 -o /tmp/small.gguf", "chat /tmp/small.gguf -p hello --max-tokens 4",
	} {
		script := `mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec env -i HOME=/tmp LATHE_BACKEND=go HF_HUB_OFFLINE=1 ` + chroot + ` "$0" /lathe/bin/lathe ` + line
		out, err := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "--fork", "--pid", "sh", "-c", script, bare).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}
