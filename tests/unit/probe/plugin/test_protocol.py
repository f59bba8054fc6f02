"""The protocol's modules."""

from google.protobuf.descriptor import FieldDescriptor

from skerry.probe.plugin import deviceplugin_pb2, generate

# As k8s.io/kubelet v0.36.3 has them in pkg/apis/deviceplugin/v1beta1/api.proto.
FIELDS = {
    "Empty": {},
    "DevicePluginOptions": {"pre_start_required": 1, "get_preferred_allocation_available": 2},
    "RegisterRequest": {"version": 1, "endpoint": 2, "resource_name": 3, "options": 4},
    "ListAndWatchResponse": {"devices": 1},
    "Device": {"ID": 1, "health": 2, "topology": 3},
    "TopologyInfo": {"nodes": 1},
    "NUMANode": {"ID": 1},
    "PreferredAllocationRequest": {"container_requests": 1},
    "ContainerPreferredAllocationRequest": {
        "available_deviceIDs": 1,
        "must_include_deviceIDs": 2,
        "allocation_size": 3,
    },
    "PreferredAllocationResponse": {"container_responses": 1},
    "ContainerPreferredAllocationResponse": {"deviceIDs": 1},
    "AllocateRequest": {"container_requests": 1},
    "ContainerAllocateRequest": {"devices_ids": 1},
    "AllocateResponse": {"container_responses": 1},
    "ContainerAllocateResponse": {"envs": 1, "devices": 3, "cdi_devices": 5},
    "DeviceSpec": {"container_path": 1, "host_path": 2, "permissions": 3},
    "CDIDevice": {"name": 1},
}
KINDS = {
    ("DevicePluginOptions", "pre_start_required"): FieldDescriptor.TYPE_BOOL,
    ("DevicePluginOptions", "get_preferred_allocation_available"): FieldDescriptor.TYPE_BOOL,
    ("NUMANode", "ID"): FieldDescriptor.TYPE_INT64,
    ("ContainerPreferredAllocationRequest", "allocation_size"): FieldDescriptor.TYPE_INT32,
}


def test_the_modules_are_those_of_the_file() -> None:
    assert generate.stale(generate.rendered()) == []


def test_names_and_numbers_are_the_kubelets() -> None:
    described = deviceplugin_pb2.DESCRIPTOR

    assert described.package == "v1beta1"
    assert {
        name: {field.name: field.number for field in message.fields}
        for name, message in described.message_types_by_name.items()
    } == FIELDS
    numbers = {
        (name, field.name): field.type
        for name, message in described.message_types_by_name.items()
        for field in message.fields
        if field.type not in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE}
    }
    assert numbers == KINDS
    methods = {method.full_name for service in described.services_by_name.values() for method in service.methods}
    assert methods == {
        "v1beta1.Registration.Register",
        *(f"v1beta1.DevicePlugin.{name}" for name in ("GetDevicePluginOptions", "ListAndWatch")),
        *(f"v1beta1.DevicePlugin.{name}" for name in ("GetPreferredAllocation", "Allocate")),
    }
