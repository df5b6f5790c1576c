//! FlowRecord: one record by row, measured or decoded.

use super::column::{Column, ColumnSet, with_columns};
use super::shape::{ExtraSpec, RecordType};
use super::value::Value;
use flowd_common::{Direction, ObservationPoint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An element that has no column, with its value as the exporter sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Which element.
    pub spec: ExtraSpec,
    /// Its value, without a length prefix.
    pub value: Vec<u8>,
}

macro_rules! define_flow_record {
    ($(($variant:ident, $field:ident, $rust:ty, $kind:ident, $id:literal, $name:literal, $doc:literal),)*) => {
        /// One record. A field counts only if `present` has its column; otherwise it is zero.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct FlowRecord {
            /// What the record tells of.
            pub record_type: RecordType,
            /// The columns that were measured or sent.
            pub present: ColumnSet,
            $(#[doc = $doc] pub $field: $rust,)*
            /// Elements that have no column.
            pub extras: Vec<Extra>,
        }

        impl FlowRecord {
            /// The value of a column, if it is present.
            #[must_use]
            pub fn value(&self, column: Column) -> Option<Value<'_>> {
                if !self.present.contains(column) {
                    return None;
                }
                Some(match column {
                    $(Column::$variant => define_flow_record!(@value $kind, self.$field),)*
                })
            }

            /// Sets a column to what [`FlowRecord::value`] gives of it; false if the column
            /// holds no such values.
            pub fn set_value(&mut self, column: Column, value: Value<'_>) -> bool {
                match column {
                    $(Column::$variant => match define_flow_record!(@set $kind, value) {
                        Some(value) => self.$field = value,
                        None => return false,
                    },)*
                }
                self.present.insert(column);
                true
            }
        }
    };
    (@set U8, $value:expr) => { whole($value) };
    (@set U16, $value:expr) => { whole($value) };
    (@set U32, $value:expr) => { whole($value) };
    (@set U64, $value:expr) => { whole($value) };
    (@set Ipv4, $value:expr) => {
        match $value { Value::Address(IpAddr::V4(address)) => Some(address.to_bits()), _ => None }
    };
    (@set Ipv6, $value:expr) => {
        match $value { Value::Address(IpAddr::V6(address)) => Some(address.octets()), _ => None }
    };
    (@set Mac, $value:expr) => { match $value { Value::Mac(octets) => Some(octets), _ => None } };
    (@set Millis, $value:expr) => {
        match $value { Value::Millis(millis) => Some(millis), _ => None }
    };
    (@value U8, $value:expr) => { Value::Unsigned(u64::from($value)) };
    (@value U16, $value:expr) => { Value::Unsigned(u64::from($value)) };
    (@value U32, $value:expr) => { Value::Unsigned(u64::from($value)) };
    (@value U64, $value:expr) => { Value::Unsigned($value) };
    (@value Ipv4, $value:expr) => { Value::Address(IpAddr::V4(Ipv4Addr::from_bits($value))) };
    (@value Ipv6, $value:expr) => { Value::Address(IpAddr::V6(Ipv6Addr::from($value))) };
    (@value Mac, $value:expr) => { Value::Mac($value) };
    (@value Millis, $value:expr) => { Value::Millis($value) };
}
with_columns!(define_flow_record);

/// A number that fits its column.
fn whole<T: TryFrom<u64>>(value: Value<'_>) -> Option<T> {
    match value {
        Value::Unsigned(number) => T::try_from(number).ok(),
        _ => None,
    }
}

impl FlowRecord {
    /// Source address of either family.
    #[must_use]
    pub fn source_address(&self) -> Option<IpAddr> {
        self.address(Column::SourceIpv4Address, Column::SourceIpv6Address)
    }

    /// Destination address of either family.
    #[must_use]
    pub fn destination_address(&self) -> Option<IpAddr> {
        self.address(Column::DestinationIpv4Address, Column::DestinationIpv6Address)
    }

    fn address(&self, ipv4: Column, ipv6: Column) -> Option<IpAddr> {
        match self.value(ipv4).or_else(|| self.value(ipv6))? {
            Value::Address(address) => Some(address),
            _ => None,
        }
    }

    /// Where the flow was seen: the interface by which it came in or left, and which of both it
    /// did. None if the record does not tell.
    #[must_use]
    pub fn point(&self) -> Option<ObservationPoint> {
        let number = |column| match self.value(column)? {
            Value::Unsigned(number) => u32::try_from(number).ok(),
            _ => None,
        };
        let (direction, column) = match number(Column::FlowDirection)? {
            0 => (Direction::INGRESS, Column::IngressInterface),
            1 => (Direction::EGRESS, Column::EgressInterface),
            _ => return None,
        };
        Some(ObservationPoint::new(number(column)?, direction))
    }

    /// Sets the interface by which the flow came in or left, the other one to 0, and which of
    /// both it did; nothing if the point does not tell its direction.
    pub fn set_point(&mut self, point: ObservationPoint) {
        (self.ingress_interface, self.egress_interface) = match point.direction {
            Direction::INGRESS => (point.interface, 0),
            Direction::EGRESS => (0, point.interface),
            _ => return,
        };
        self.flow_direction = point.direction.0;
        self.present.insert(Column::IngressInterface);
        self.present.insert(Column::EgressInterface);
        self.present.insert(Column::FlowDirection);
    }

    /// Sets the source address, in the column of its family.
    pub fn set_source_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.source_ipv4_address = address.to_bits();
                self.present.insert(Column::SourceIpv4Address);
            }
            IpAddr::V6(address) => {
                self.source_ipv6_address = address.octets();
                self.present.insert(Column::SourceIpv6Address);
            }
        }
    }

    /// Sets the destination address, in the column of its family.
    pub fn set_destination_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.destination_ipv4_address = address.to_bits();
                self.present.insert(Column::DestinationIpv4Address);
            }
            IpAddr::V6(address) => {
                self.destination_ipv6_address = address.octets();
                self.present.insert(Column::DestinationIpv6Address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_differs_from_zero() {
        let mut record = FlowRecord::default();
        assert_eq!(record.value(Column::OctetDeltaCount), None);
        record.present.insert(Column::OctetDeltaCount);
        assert_eq!(record.value(Column::OctetDeltaCount), Some(Value::Unsigned(0)));
    }

    #[test]
    fn columns_take_what_they_give() {
        for &column in Column::ALL {
            let mut record = FlowRecord::default();
            record.present.insert(column);
            let value = record.value(column).unwrap();
            let mut other = FlowRecord::default();
            assert!(other.set_value(column, value), "{column:?}");
            assert_eq!(other.value(column), Some(value));
            assert!(!other.set_value(column, Value::Boolean(true)), "{column:?}");
        }
        let mut record = FlowRecord::default();
        assert!(!record.set_value(Column::ProtocolIdentifier, Value::Unsigned(256)));
        assert_eq!(record, FlowRecord::default());
    }

    #[test]
    fn observation_points_come_back() {
        for direction in [Direction::INGRESS, Direction::EGRESS] {
            let mut record = FlowRecord::default();
            assert_eq!(record.point(), None);
            let point = ObservationPoint::new(7, direction);
            record.set_point(point);
            assert_eq!(record.point(), Some(point));
            record.present.remove(Column::FlowDirection);
            assert_eq!(record.point(), None);
        }
        let mut record = FlowRecord::default();
        record.set_point(ObservationPoint::new(7, Direction::NONE));
        assert_eq!(record, FlowRecord::default());
    }

    #[test]
    fn addresses_of_both_families_come_back() {
        let mut record = FlowRecord::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let destination: IpAddr = "2001:db8::1".parse().unwrap();
        record.set_source_address(source);
        record.set_destination_address(destination);
        assert_eq!(record.source_address(), Some(source));
        assert_eq!(record.destination_address(), Some(destination));
    }
}
