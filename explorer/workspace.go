package explorer

import (
	"fmt"
	"path/filepath"
)

// DefaultWorkspace returns the folder below root that a model's workspace is kept in where none was chosen. It follows the
// content of the model and not its path: a file that was moved keeps its workspace.
func DefaultWorkspace(root string, m ModelInfo) string {
	name := make([]rune, 0, len(m.Name))
	for _, r := range m.Name {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			name = append(name, r)
		} else {
			name = append(name, '-')
		}
	}
	return filepath.Join(root, fmt.Sprintf("%.60s-%.12s", string(name), m.Fingerprint))
}
