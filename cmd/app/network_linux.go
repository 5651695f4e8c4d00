package app

import "os"

// localNetwork identifies this process' network: the boot of the machine and
// the network namespace.
func localNetwork() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	return networkOf(string(boot), namespace)
}
