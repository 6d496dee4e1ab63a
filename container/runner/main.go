package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// child is this process between its start and the program's.
type child struct {
	*job
	say *json.Encoder
	// control is the socket to the one who started us.
	control *os.File
	foreign int // namespaces to join
	// hierarchies are the host's: in a cgroup namespace their roots are called
	// otherwise.
	hierarchies []hierarchy
	single      bool // there is one user only, root, in our user namespace
}

// Main is the child's side of [Start] and [Exec]: it reads its job from control
// and lets the program take its place. It returns only after an error, which has
// been sent to the caller of Start, or with the program's end where this process
// stays (see [ExitCode]).
func Main(control *os.File) error {
	runtime.LockOSThread() // namespaces and identities belong to threads
	c := &child{job: &job{}, say: json.NewEncoder(control), control: control}
	err := c.begin()
	if err == nil {
		err = c.run()
	}
	var ended *programEnd
	if err == nil || errors.As(err, &ended) {
		return err
	}
	code := CodeFailed
	var coded *StartError
	if errors.As(err, &coded) {
		code = coded.Code
	}
	return errors.Join(err, c.say.Encode(outcome{Error: err.Error(), Code: code}))
}

// begin closes ourselves off and reads the job.
func (c *child) begin() error {
	if err := closeOnExec(); err != nil {
		return err
	}
	unix.Close(programFD) // no path of the container may lead through it
	text, err := io.ReadAll(c.control)
	if err == nil {
		err = json.Unmarshal(text, c.job)
	}
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	if err := c.becomeRoot(); err != nil {
		return err
	}
	if err := c.prepare(); err != nil {
		return err
	}
	// Nobody who enters our namespaces may look into this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}

// prepare does what needs the host's /proc, and our own files in it, which
// only belong to us as long as we can be looked into.
func (c *child) prepare() error {
	c.single = singleUser()
	c.hierarchies = hierarchies()
	if err := c.openLate(); err != nil {
		return err
	}
	if c.stays() {
		c.rename()
	}
	if c.Join != 0 {
		if c.foreign = foreignNamespaces(c.Join); c.foreign == 0 {
			return fmt.Errorf("process %d of the container is not there", c.Join)
		}
	}
	if adj := c.Spec.Process.OOMScoreAdj; adj != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*adj)), 0); err != nil {
			return fmt.Errorf("set the OOM score: %w", err)
		}
	}
	return nil
}

// run does the job, step by step.
func (c *child) run() error {
	unix.Umask(0)
	if c.Join != 0 {
		if err := c.join(); err != nil {
			return err
		}
	} else if err := c.build(); err != nil {
		return err
	}
	if err := c.terminal(); err != nil {
		return err
	}
	if err := c.enterCwd(); err != nil {
		return err
	}
	if err := c.limit(); err != nil {
		return err
	}
	if err := c.become(); err != nil {
		return err
	}
	if err := c.mayEnter(); err != nil {
		return err
	}
	if c.Spec.Process.User.Umask != nil {
		unix.Umask(int(*c.Spec.Process.User.Umask))
	} else {
		unix.Umask(0o022)
	}
	if c.stays() {
		return c.spawn()
	}
	return c.execute()
}

// mayEnter explains what keeps users out of the mount of somebody who is not
// root: FUSE itself does (fuse(4), allow_other).
func (c *child) mayEnter() error {
	user := &c.Spec.Process.User
	var st unix.Stat_t
	if user.UID == 0 || !errors.Is(unix.Stat("/", &st), unix.EACCES) {
		return nil
	}
	return fmt.Errorf("user %d:%d: only you may enter your own mounts; "+
		"with the line user_allow_other in /etc/fuse.conf the container's other users may, too", user.UID, user.GID)
}

// stays reports whether this process remains, as the parent of the program.
func (c *child) stays() bool { return c.Init || c.Join != 0 }

// build makes the surroundings of a new container.
func (c *child) build() error {
	if err := c.enterNamespaces(); err != nil {
		return err
	}
	r, err := c.buildRoot()
	if err != nil {
		return err
	}
	if err := c.nameHost(); err != nil {
		return err
	}
	if err := enterRoot(r.dir); err != nil {
		return err
	}
	return c.hide()
}

// enterNamespaces joins what the container shares with others and makes the
// cgroup namespace, whose root is the cgroup that we have been moved to.
func (c *child) enterNamespaces() error {
	for _, n := range c.Spec.Linux.Namespaces {
		switch {
		case n.Path != "" && n.Type == specs.PIDNamespace:
			return errors.New("joining another container's PID namespace is not supported")
		case n.Path != "":
			if err := joinPath(n.Path); err != nil {
				return fmt.Errorf("join %s namespace %s: %w", n.Type, n.Path, err)
			}
		case n.Type == specs.CgroupNamespace:
			if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
				return fmt.Errorf("make a cgroup namespace: %w", err)
			}
		case n.Type == specs.NetworkNamespace:
			if err := raiseLoopback(); err != nil {
				return fmt.Errorf("bring up the loopback interface: %w", err)
			}
		}
	}
	return nil
}

func joinPath(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, 0)
}

// raiseLoopback brings up lo of a network namespace of our own (netdevice(7)).
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// nameHost sets what uname(2) says.
func (c *child) nameHost() error {
	if c.Spec.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Spec.Hostname)); err != nil {
			return fmt.Errorf("set the hostname %q: %w", c.Spec.Hostname, err)
		}
	}
	if c.Spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(c.Spec.Domainname)); err != nil {
			return fmt.Errorf("set the domain name %q: %w", c.Spec.Domainname, err)
		}
	}
	return nil
}
