package subnet

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weftnet/weft/internal/atomicfile"
)

// State is what a node remembers across restarts, in node.json of its state
// directory.
type State struct {
	NodeID string // 32 hex digits, made at the first start
	Subnet Subnet // the last one held; zero if none was

	path string
}

// stateJSON is State as it stands in the file.
type stateJSON struct {
	NodeID string `json:"nodeID"`
	Subnet string `json:"subnet,omitempty"` // as in the lease's key
}

const stateFile = "node.json"

// LoadState reads the state in dir. Where there is none, the node is new: it
// gets an ID, and the file is written at once. A file that cannot be read as
// state is an error: a new ID would make the node a stranger to its own lease.
func LoadState(dir string) (*State, error) {
	s, err := ReadState(dir)
	if errors.Is(err, os.ErrNotExist) {
		s = &State{NodeID: newNodeID(), path: filepath.Join(dir, stateFile)}
		err = s.write()
	}
	return s, err
}

// ReadState is LoadState where a new node is an error, which matches
// fs.ErrNotExist.
func ReadState(dir string) (*State, error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read node state: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return nil, fmt.Errorf("node state %s is damaged: %w; restore the file, or delete it to make this a new node, "+
			"which keeps the subnet as long as its public IP stays the same", path, err)
	}
	s.path = path
	return s, nil
}

func newNodeID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func parseState(data []byte) (*State, error) {
	var j stateJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, err
	}
	if id, err := hex.DecodeString(j.NodeID); err != nil || len(id) != 16 {
		return nil, fmt.Errorf("nodeID is %q, want 32 hex digits", j.NodeID)
	}
	s := &State{NodeID: j.NodeID}
	if j.Subnet != "" {
		var err error
		if s.Subnet, err = ParseKey(j.Subnet); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Save remembers held as the subnet last held. The file is written only if
// that is news.
func (s *State) Save(held Subnet) error {
	if s.Subnet == held {
		return nil
	}
	old := s.Subnet
	s.Subnet = held
	if err := s.write(); err != nil {
		s.Subnet = old
		return err
	}
	return nil
}

func (s *State) write() error {
	j := stateJSON{NodeID: s.NodeID}
	if !s.Subnet.IsZero() {
		j.Subnet = s.Subnet.Key()
	}
	data, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return fmt.Errorf("write node state: %w", err)
	}
	if err := atomicfile.Write(s.path, append(data, '\n'), 0o600, 0o700); err != nil {
		return fmt.Errorf("write node state: %w", err)
	}
	return nil
}

// RemoveState removes what a node remembers in dir: its State and its Memory.
func RemoveState(dir string) error {
	for _, name := range []string{stateFile, memoryFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove node state: %w", err)
		}
	}
	return nil
}
