package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RemoveData removes what a member left in its data directory, and the
// directory if nothing else is in it. No member may run on it. It is no error
// if there is nothing.
func RemoveData(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range []string{"member", socketFile} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove data of the embedded etcd: %w", err)
		}
	}
	os.Remove(dir) // fails if somebody else's files are there: they stay
	return nil
}
