//! Where the sample's users shop.

/// A city and its centre.
#[derive(Debug)]
pub(super) struct City {
    pub(super) name: &'static str,
    /// Ten-thousandths of a degree north.
    pub(super) latitude: i64,
    /// Ten-thousandths of a degree east.
    pub(super) longitude: i64,
}

const fn city(name: &'static str, latitude: i64, longitude: i64) -> City {
    City { name, latitude, longitude }
}

/// Every two are more than 100 km apart.
pub(super) const CITIES: &[City] = &[
    city("Lisbon", 387_223, -91_393),
    city("Madrid", 404_168, -37_038),
    city("Barcelona", 413_874, 21_686),
    city("Paris", 488_566, 23_522),
    city("London", 515_074, -1_278),
    city("Dublin", 533_498, -62_603),
    city("Amsterdam", 523_676, 49_041),
    city("Berlin", 525_200, 134_050),
    city("Munich", 481_351, 115_820),
    city("Zürich", 473_769, 85_417),
    city("Rome", 419_028, 124_964),
    city("Vienna", 482_082, 163_738),
    city("Prague", 500_755, 144_378),
    city("Warsaw", 522_297, 210_122),
    city("Stockholm", 593_293, 180_686),
    city("Oslo", 599_139, 107_522),
    city("Helsinki", 601_699, 249_384),
    city("Athens", 379_838, 237_275),
    city("Istanbul", 410_082, 289_784),
    city("Cairo", 300_444, 312_357),
    city("Lagos", 65_244, 33_792),
    city("Nairobi", -12_921, 368_219),
    city("Johannesburg", -262_041, 280_473),
    city("Dubai", 252_048, 552_708),
    city("Mumbai", 190_760, 728_777),
    city("Delhi", 287_041, 771_025),
    city("Singapore", 13_521, 1_038_198),
    city("Tokyo", 356_762, 1_396_503),
    city("Seoul", 375_665, 1_269_780),
    city("Sydney", -338_688, 1_512_093),
    city("São Paulo", -235_505, -466_333),
    city("Buenos Aires", -346_037, -583_816),
    city("Bogotá", 47_110, -740_721),
    city("Mexico City", 194_326, -991_332),
    city("New York", 407_128, -740_060),
    city("Chicago", 418_781, -876_298),
    city("San Francisco", 377_749, -1_224_194),
    city("Toronto", 436_532, -793_832),
];

/// Cities so near to each other that one can shop in all three within minutes.
pub(super) const METROPOLISES: &[[City; 3]] = &[
    [city("Lisbon", 387_223, -91_393), city("Amadora", 387_538, -92_308), city("Almada", 386_790, -91_569)],
    [city("London", 515_074, -1_278), city("Wembley", 515_505, -3_048), city("Croydon", 513_762, -982)],
    [city("Paris", 488_566, 23_522), city("Saint-Denis", 489_362, 23_574), city("Versailles", 488_014, 21_301)],
    [city("Berlin", 525_200, 134_050), city("Spandau", 525_511, 131_999), city("Potsdam", 523_906, 130_645)],
    [city("New York", 407_128, -740_060), city("Newark", 407_357, -741_724), city("Yonkers", 409_312, -738_988)],
    [city("Tokyo", 356_762, 1_396_503), city("Kawasaki", 355_308, 1_397_029), city("Yokohama", 354_437, 1_396_380)],
];
