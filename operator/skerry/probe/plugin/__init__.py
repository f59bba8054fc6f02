"""The device plugin: it lets the kubelet count devices and hand them to pods, where no vendor's plugin does.

Nothing heavier than the standard library is imported before there is a device to offer.

What happens when (read in Kubernetes 1.36, pkg/kubelet/cm/devicemanager; seen with kubelet 1.36.3, containerd 2.4):

- A device becomes unhealthy or vanishes: it is listed as unhealthy. The node's allocatable shrinks with the next node
  status (10 s), its capacity stays, the pod that has it keeps running and shows the device's health. A container that
  starts again gets what was answered at admission: without CDI the kubelet looks for the old device file and tries
  until that is back.
- A device comes back under another path: with CDI the next start of a container finds it. Without, the pod has to be
  replaced: the kubelet asks once in a pod's life.
- A vendor's plugin appears for the same devices: the resource lists nothing, and the plugin goes on serving. New pods
  get none of it (allocatable and capacity are 0, and Allocate refuses). Pods that run keep their devices; their health
  stays Healthy, as the kubelet takes a device that is not listed for healthy; their containers can start again, as
  the kubelet remembers the answer. Listing the devices as unhealthy would make the pods show that, and whoever looks
  after them move them at once. To stop serving would do no harm for five minutes; then the kubelet forgets the
  resource and cannot start containers of such pods again (`endpoint not found in cache for a registered resource`).
  Until these pods are replaced the vendor's plugin may give the same device to another pod: it does not know of ours.
- The kubelet restarts: it removes all sockets and makes its own anew; every resource is registered again within a
  second or two.
  Pods keep their devices. Until then the node shows 0.
- The probe restarts, or is killed: the kubelet takes all devices for unhealthy until the next probe registers. The API
  server hears of it only if that takes longer than a node status. A pod that is admitted meanwhile is rejected for
  good (UnexpectedAdmissionError): who made it has to make another. What had vanished before is forgotten.
- The API server is away: nothing changes, it is not needed.
"""

from skerry.probe.plugin.plugins import DevicePlugins

__all__ = ["DevicePlugins"]
