"""Descriptions of virtual machines: OVF (DMTF DSP0243, version 1.1), Vagrant boxes."""

from xml.sax.saxutils import escape

OVF = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="{disk}" ovf:size="{bytes}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte"
      ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="default"><Description>The network of the machine</Description></Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="96"><Info>Debian GNU/Linux, 64 bits</Info></OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
      </System>
{items}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""
ITEM = "      <Item>{fields}</Item>\n"
# Resource types: CIM_ResourceAllocationSettingData, ResourceType.
PROCESSOR, MEMORY, ETHERNET, SATA, DISK = 3, 4, 10, 20, 17


def ovf(name, disk, size, capacity, cpus, memory_mib):
    """Return the description of a machine with one disk of *capacity* bytes, whose file *disk* has *size* bytes."""
    items = "".join(
        _item(fields)
        for fields in (
            [("ElementName", "processors"), ("InstanceID", 1), ("ResourceType", PROCESSOR), ("VirtualQuantity", cpus)],
            [
                ("AllocationUnits", "byte * 2^20"),
                ("ElementName", "memory"),
                ("InstanceID", 2),
                ("ResourceType", MEMORY),
                ("VirtualQuantity", memory_mib),
            ],
            [
                ("Address", 0),
                ("ElementName", "sata"),
                ("InstanceID", 3),
                ("ResourceSubType", "AHCI"),
                ("ResourceType", SATA),
            ],
            [
                ("AddressOnParent", 0),
                ("ElementName", "disk"),
                ("HostResource", "ovf:/disk/disk1"),
                ("InstanceID", 4),
                ("Parent", 3),
                ("ResourceType", DISK),
            ],
            [
                ("AutomaticAllocation", "true"),
                ("Connection", "default"),
                ("ElementName", "ethernet"),
                ("InstanceID", 5),
                ("ResourceSubType", "E1000"),
                ("ResourceType", ETHERNET),
            ],
        )
    )
    return OVF.format(name=escape(name), disk=escape(disk), bytes=size, capacity=capacity, items=items)


def _item(fields):
    return ITEM.format(fields="".join("<rasd:%s>%s</rasd:%s>" % (key, value, key) for key, value in fields))
